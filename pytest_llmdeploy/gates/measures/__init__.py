"""What texts, markup and tool calls measure: pure algorithms that several formats of cases share.

Nothing here knows how a case is written, asks a model, or raises anything but ValueError.
"""
