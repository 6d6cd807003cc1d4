"""``python -m claude_loop``: the command line."""

import gc

# The modules of a command stay until its end. To look for garbage among them while they load takes a tenth of a short
# command's time; it begins when its own work does.
gc.disable()

from claude_loop.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
