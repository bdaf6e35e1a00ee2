"""What the wire tests are made of; harness.py gathers it for them."""
