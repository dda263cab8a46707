"""What a job sets out from and what it would take, found out before anything begins."""
