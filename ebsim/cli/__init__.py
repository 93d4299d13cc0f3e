"""The command line: parsing, printing and exit codes.  The work is done by ``engine``."""
