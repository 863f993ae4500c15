"""A child that tells its supervisor every tenth of a second that it is well, and ends when that one is killed."""

import sys
from pathlib import Path
from threading import Event

sys.path.insert(0, str(Path(__file__).parents[2]))

from accounting.base import watch

watch.BEAT_S = 0.1
watch.end_with_supervisor()
told = watch.Watch()
told.ready()
while True:
    told.beat()
    Event().wait(0.1)
