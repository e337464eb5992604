"""Applications: the core in the interface that another field uses, one folder each, imported by nothing below.

    autonomy    shared control: a copilot for an environment of gymnasium
    evolution   multi-objective search: an algorithm of pymoo
    speech      enhancement: a noisy wave in, a cleaner one out

They need what ``pip install "bridgejax[apps]"`` brings, and say so where it is missing.
"""
