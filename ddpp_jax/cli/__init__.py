"""The commands: flags to settings, stages joined by files, and every error to one line."""
