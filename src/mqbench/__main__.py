"""``python -m mqbench``."""

from mqbench.cli import main

raise SystemExit(main())
