"""``python -m mqbench``, and the command ``mqbench``."""

import signal


def start() -> int:
    """Run the command line; Ctrl-C while it is being imported ends the process without a traceback."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mqbench.cli import main  # only now, because that takes half a second

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


if __name__ == "__main__":
    raise SystemExit(start())
