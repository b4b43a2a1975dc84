"""Composition of the default configurations, which processes that a server forks find in their cache."""

import gc

from kanvision.config import check_command_line
from kanvision.config.conf_folder import CONF

for name, words in (("train", []), ("eval", ["ckpt=."])):
    check_command_line(name, words, CONF)
gc.freeze()  # what the server has imported is garbage in none of its processes
