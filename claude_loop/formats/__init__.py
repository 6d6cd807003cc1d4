"""Pure readers of what others write: agents' hooks, their output, git, prd.json. No I/O, and nothing here raises for
what it does not understand."""
