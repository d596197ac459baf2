"""What all programs share: one-line errors with exit code 2, and the choice of a device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from rcnn_edu.errors import UserError


def run_program(program: Callable[[], object]) -> None:
    """Run `program`; a `UserError` becomes one line on standard error and exit code 2.

    Of several processes started by torchrun, all of which meet the error, the first prints it.
    """
    try:
        program()
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def check_folder(folder: Path, option: str) -> None:
    """Raise `UserError` if nothing can be written to a folder that may have to be made."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{folder}: {nearest} is a file; choose another {option}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: {nearest} cannot be written to; choose another {option}")


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU if there is one, else the CPU. Raises `UserError` for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # a "meta" device has no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name} cannot be used ({reason}); use --device cpu or --device auto") from error
    return device


def use_bfloat16(amp: Literal["off", "bf16", "auto"], device: torch.device) -> bool:
    """Whether to compute in bfloat16; `auto`: where the processor has instructions for it, so that it is faster."""
    if amp != "auto":
        return amp == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())  # no public test exists
