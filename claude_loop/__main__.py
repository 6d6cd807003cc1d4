"""``python -m claude_loop``: the command line."""

from claude_loop.cli import main

if __name__ == "__main__":
    main()
