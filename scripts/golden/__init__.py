"""Parts of scripts/make-golden.py: each module makes one kind of reference file."""
