"""What a policy would catch: cases with planted faults, performed and simulated, and advice.

All here is pure but for random numbers; who performs canaries for it is in the assembly.
"""
