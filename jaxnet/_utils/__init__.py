"""What every room may use and no user needs: checks of arguments, digests, files, processes."""
