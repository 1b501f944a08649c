"""A simulated engine in virtual time, to test the search on thousands of engines in seconds.

`physics` says what engines do, `rig` lets the search drive them, `published` holds engines calibrated on measurements.
Its figures must never be shown as measurements.
"""
