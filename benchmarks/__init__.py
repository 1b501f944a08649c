"""What is measured of the product and kept: a package for each subject, run as `python -m benchmarks.SUBJECT`.

    records     runs by name, and how old what they showed is: `make record`
    measured    the tables of the pages, from the figures that runs have kept: `make generate`
    results/    the figures; records/ says of which commit they are

Never part of what is shipped. The product must import nothing of it; it may import the product and the test bed.
"""
