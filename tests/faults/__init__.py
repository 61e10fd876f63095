"""What breaks, done on purpose: the matrix of docs/reliability.md.

    make test-faults                 every case, and the page is written anew
    pytest tests/faults              the quick ones

The cloud is tests/emulator. `Stage` runs a region's cloud resources with the toolkit's Stack, the real engine and the
real plugin, in processes that can be killed; `Chain` runs the same resources in this process, for faults that lie
between the plugin and the cloud. Invariants I1 to I7 are in invariants.py.
"""
