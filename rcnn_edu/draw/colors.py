"""The colours of every picture: told apart by readers of any colour vision, and the same meaning everywhere."""

OBJECT = "#0072B2"
FOREGROUND = "#009E73"
BACKGROUND = "#D55E00"
DONT_CARE = "#999999"
PROPOSAL = "#CC79A7"
KEPT = "#E69F00"
