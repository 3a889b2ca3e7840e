def get_assert(output, context):
    return {"pass": "good" in output, "score": 0.7, "reason": context["vars"].get("q", "none")}


def score(output, context):
    return len(output) / 10


def transformed(output, context):
    return output.upper()


def get_transform(output, context):
    return {"n": len(output), "v": context["vars"]}


def nothing(output, context):
    return None


def names(output, context):
    return ["good", "x"]
