"""Functions of a backend, for tests that register jobs."""


def report() -> dict[str, int]:
    return {"rows": 3}


async def sync() -> None:
    return None


def trim(limit: int, text: str = "") -> None:
    return None


def other() -> None:
    return None
