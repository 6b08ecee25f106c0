"""Opens the page: `python app.py`. Hugging Face Spaces starts this file as well."""

import sys

from headviz.page.launch import main

if __name__ == "__main__":
    sys.exit(main())
