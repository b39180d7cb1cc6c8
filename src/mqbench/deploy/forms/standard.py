"""Standard: integers as the network has them, for engines that have no form of their own."""

from mqbench.deploy.forms._base import Form

FORM = Form()
