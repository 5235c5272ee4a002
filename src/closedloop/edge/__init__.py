"""From outside: HTTP and the command line; thin."""
