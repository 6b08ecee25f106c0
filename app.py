"""Opens the page: `python app.py`. Hugging Face Spaces starts this file as well."""

import importlib
import os
import sys

if os.environ.get("SPACES_ZERO_GPU"):
    importlib.import_module("spaces")  # changes torch, and so comes before it

from headviz.page.launch import main

if __name__ == "__main__":
    sys.exit(main())
