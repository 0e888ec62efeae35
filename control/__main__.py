"""python -m flannelette.control"""

import sys

from flannelette.control.main import main

sys.exit(main())
