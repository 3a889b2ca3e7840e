def upper(output, context):
    return output.upper()


def twice(output, context):
    return output * 2


def member(output, context):
    return output["said"]
