"""From files, releases and the hub to a task's table."""
