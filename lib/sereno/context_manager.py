"""`contextlib.contextmanager` and `closing` for what every run loads: `contextlib` loads functools and collections.

Type checkers are shown the originals. The generator of such a function lets no error of its block disappear.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import closing as closing
    from contextlib import contextmanager as contextmanager
else:

    class _Manager:
        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            return next(self._generator)

        def __exit__(self, _, error, traceback):
            if error is None:
                next(self._generator, None)
                return
            try:
                self._generator.throw(error)
            except BaseException as raised:
                if raised is not error:
                    raise
                # Its way through the generator is nothing to who reads it.
                error.__traceback__ = traceback

    def contextmanager(function):
        return lambda *values, **named: _Manager(function(*values, **named))

    @contextmanager
    def closing(thing):
        try:
            yield thing
        finally:
            thing.close()
