"""Advice as a change to a workload of somebody else: what is to be edited, and the forms in which it is written."""
