"""Programs that start on a command line: `kanvision`, train.py and eval.py. They import torch late."""
