"""The run-time type checker of the tests: beartype, with whole numbers allowed for `float`."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Python's type rules allow `int` where `float` is asked for; plain beartype does not."""
