"""The device that a user names."""


def torch_device(name: str) -> str:
    """Return the name of a device of torch that this computer has.

    Args:
        name: auto, cpu, cuda, cuda:1 or mps; auto is the first GPU of CUDA, else the CPU.

    Raises:
        ValueError: the device is unknown, or this computer or this build of torch has none.
    """
    if name == "cpu":
        return name
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise ValueError(f"Got the device {name!r}. Allowed: auto, cpu, cuda, cuda:1, mps.")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) >= count:
            has = f"only {count} GPU(s) of CUDA" if count else "no GPU of CUDA"
            raise ValueError(f"Got the device {name!r}, but torch finds {has}. Try --device cpu.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(
            f"Got the device {name!r}, but torch finds no GPU of Apple. Try --device cpu."
        )
    return name
