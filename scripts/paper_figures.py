"""The paper's own figures (Li et al., 2024): test accuracy in %, mean and deviation."""

RANDOM, FORGETTING, HERDING = "random real images", "forgetting (most forgotten)", "herding"
MTT, OURS = "MTT (no pruning)", "ours (threshold 0.1)"
FULL = "full data (the teachers)"

TABLE1 = {
    ("cifar10", 1): {
        RANDOM: (14.4, 2.0),
        FORGETTING: (13.5, 1.2),
        HERDING: (21.5, 1.2),
        MTT: (46.3, 0.8),
        OURS: (46.4, 0.6),
        FULL: (84.8, 0.1),
    },
    ("cifar10", 10): {
        RANDOM: (26.0, 1.2),
        FORGETTING: (23.3, 1.0),
        HERDING: (31.6, 0.7),
        MTT: (65.3, 0.7),
        OURS: (65.5, 0.3),
        FULL: (84.8, 0.1),
    },
    ("cifar10", 50): {
        RANDOM: (43.4, 1.0),
        FORGETTING: (23.3, 1.1),
        HERDING: (40.4, 0.6),
        MTT: (71.6, 0.2),
        OURS: (71.9, 0.2),
        FULL: (84.8, 0.1),
    },
    ("cifar100", 1): {
        RANDOM: (4.2, 0.3),
        FORGETTING: (4.5, 0.2),
        HERDING: (8.4, 0.3),
        MTT: (24.3, 0.3),
        OURS: (24.6, 0.1),
        FULL: (56.2, 0.3),
    },
    ("cifar100", 10): {
        RANDOM: (14.6, 0.5),
        FORGETTING: (15.1, 0.3),
        HERDING: (17.3, 0.3),
        MTT: (40.1, 0.4),
        OURS: (43.1, 0.3),
        FULL: (56.2, 0.3),
    },
    ("cifar100", 50): {
        RANDOM: (30.0, 0.4),
        FORGETTING: (30.5, 0.3),
        HERDING: (33.7, 0.5),
        MTT: (47.7, 0.2),
        OURS: (48.4, 0.3),
        FULL: (56.2, 0.3),
    },
}
TABLE3 = {
    "convnet": {MTT: (64.3, 0.7), OURS: (65.4, 0.4)},
    "alexnet": {MTT: (34.2, 2.6), OURS: (35.8, 1.3)},
    "vgg11": {MTT: (50.3, 0.8), OURS: (52.9, 0.9)},
    "resnet18": {MTT: (46.4, 0.6), OURS: (51.8, 1.1)},
}
TABLE4 = {
    1: {MTT: (52.5, 5.5), OURS: (54.2, 3.7)},
    5: {MTT: (79.3, 0.4), OURS: (81.6, 0.3)},
    10: {MTT: (82.2, 0.2), OURS: (83.5, 0.2)},
    20: {MTT: (82.7, 0.5), OURS: (84.1, 0.6)},
}
