"""What operators do and see, for the admin and the command line alike: queues, messages, results, workers.

Nothing here asks whether the user may: the admin does, and whoever has a shell may everything.
"""
