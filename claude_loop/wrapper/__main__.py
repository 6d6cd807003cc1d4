"""``python -I -S claude_loop/wrapper DIRECTORY COMMAND...``: what ``claude-loop run`` becomes."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # Started by path, without the packages of the environment: only this one is to be found.
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)
    from claude_loop.wrapper.main import main

    main(sys.argv[1], sys.argv[2:])
