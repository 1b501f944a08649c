"""Python runs this at the start of every process of the engine's environment.

NB: vLLM's engine and worker wait for each other by spinning on os.sched_yield() for up to a second. With two of them on
two cores and Linux 6.18 (EEVDF), whatever else runs is starved: stalls of 1-12 s were seen in the API server, the load
generator, even in the etcd of the kind node beside it. A nap of 50 us costs less than a step and starves nobody.
"""

import os
import time

os.sched_yield = lambda: time.sleep(50e-6)
