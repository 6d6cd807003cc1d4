"""What `claude-loop doctor` looks at. Looking only: nothing here changes, starts or sends anything."""
