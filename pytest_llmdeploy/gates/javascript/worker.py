"""The process in which V8 runs: a JSON line in, a JSON line out, until its stdin ends.

Run as a program by ``gates/javascript/``, never imported. Each evaluation has an isolate of its
own, so nothing is left of the one before. The kernel ends the process when an evaluation takes too
long (SIGALRM): that works whatever V8 does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

PRELUDE = r"""

(() => {
  const stringify = JSON.stringify, parse = JSON.parse, text = String;
  delete globalThis.WebAssembly;
  const told = (value) => {
    const kind = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
    if (kind === "number" && !Number.isFinite(value)) return {kind, special: text(value)};
    if (kind === "bigint" || kind === "symbol" || kind === "function" || kind === "undefined")
      return {kind, special: kind};
    const json = stringify(value);
    return json === undefined ? {kind: "undefined", special: "undefined"} : {kind, json};
  };
  const failed = (error) => {
    if (error === null || typeof error !== "object") return {error: text(error), name: ""};
    const name = text(error.name), message = text(error.message);
    return {error: message, name};
  };
  return async (request) => {
    const {source, names, values, form, call, lenient} = parse(request);
    let made;
    try {
      const given = names.map((name) => values[name]);
      if (form === "body") made = new Function(...names, source)(...given);
      else if (form === "auto") {
        let whole;
        try { whole = new Function(...names, "return (" + source + "\n)"); }
        catch { whole = new Function(...names, source); }
        made = whole(...given);
        if (typeof made === "function") made = made(...given);
      }
      else {
        const require = (what) => {
          const error = new Error("require(" + stringify(text(what)) + ")");
          error.name = "ModulesNotAvailable";
          throw error;
        };
        const module = {exports: {}};
        new Function("module", "exports", "require", source)(module, module.exports, require);
        const main = module.exports?.default?.default || module.exports?.default || module.exports;
        let found = call === null ? main : main?.[call];
        if (typeof found !== "function" && (call === null || lenient)) found = main;
        if (typeof found !== "function") {
          const error = new Error(call ?? "");
          error.name = "NoFunctionExported";
          throw error;
        }
        made = found(...given);
      }
      made = told(await made);
    } catch (error) {
      made = failed(error);
    }
    return stringify(made);
  };
})()
"""


async def evaluate(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a new isolate makes of the request."""
    from py_mini_racer import mini_racer

    deadline, most = request["deadline"], request["most"]
    given = json.dumps(json.dumps(request["run"]))
    # What follows a deadline is the end of the process, so the default action is the right one.
    signal.setitimer(signal.ITIMER_REAL, deadline)
    try:
        with mini_racer(asyncio.get_running_loop()) as isolate:
            isolate.set_hard_memory_limit(request["memory"])
            pending = await isolate.eval_cancelable(f"{PRELUDE.strip()}({given})")
            told = str(await pending)
            if isolate.was_hard_memory_limit_reached():
                return {"memory": True}
    except Exception as error:  # noqa: BLE001 - whatever it was, the next line is answered
        return {"broken": type(error).__name__, "why": str(error)[:1000]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"told": told} if len(told) <= most else {"long": True}


def main() -> None:
    """Answer until stdin ends."""
    # Virtual memory cannot be bounded, as V8 reserves terabytes of it; what it writes to can.
    limit = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):  # not every system has it
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import py_mini_racer  # noqa: F401 - before the first deadline begins

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    for line in sys.stdin.buffer:
        told = loop.run_until_complete(evaluate(json.loads(line)))
        sys.stdout.buffer.write(json.dumps(told).encode() + b"\n")
        sys.stdout.buffer.flush()
    os._exit(0)  # V8's own way out can wait for ever


if __name__ == "__main__":
    main()
