"""Downloads a model or data set of the hub; a process of its own, so that stopping it is certain.

A download is threads in the hub's client, and native ones beside them, that nobody can stop from
outside; a process can be ended at any moment. Reads what to fetch as JSON from stdin, and answers
with JSON: the folder, or what went wrong. It imports nothing of headviz, which would take longer
than many a download.
"""

import json
import sys


def main() -> None:
    """Fetch, and print {"folder": …} or {"error": name of its type, "text": …}."""
    from huggingface_hub import snapshot_download

    asked = json.load(sys.stdin)
    try:
        folder = snapshot_download(
            asked["name"],
            repo_type=asked["kind"],
            revision=asked["revision"],
            allow_patterns=asked["files"],
            cache_dir=asked["cache"],
            max_workers=4,
        )
        answer = {"folder": folder}
    except Exception as error:  # whatever it is, who started this process says it
        answer = {"error": type(error).__name__, "text": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
