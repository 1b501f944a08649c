"""What a machine with a GPU is asked in a few minutes, stage by stage: `table.py` lists them, `conductor.py` runs them.

A stage runs in a process of its own (`child.py`) and says each figure as soon as it has it; the conductor keeps them on
disk (`record.py`). Assumes Linux and one device that nobody else uses. Must never need a network, Kubernetes, or a
package beyond what an engine image has; and must never keep a figure that was not measured.
"""
