"""Put on PYTHONPATH: in every Python process of a run the wall clock jumps by up to a day, both ways."""

import random
import time

_JUMP_S = 86_400.0
_EVERY_S = 2.0

_real, _random = time.time, random.Random()
_state = {"offset": 0.0, "until": 0.0}


def _jumping() -> float:
    if time.monotonic() > _state["until"]:
        _state["offset"] = _random.uniform(-_JUMP_S, _JUMP_S)
        _state["until"] = time.monotonic() + _EVERY_S
    return _real() + _state["offset"]


time.time = _jumping
