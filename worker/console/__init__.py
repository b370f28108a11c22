"""The web console: pages on which people see, find, show, keep and erase sessions.

A request passes `serving/`: the checks of `defence.py`, then who it is (`sign_in/`), then what that person may do
(`roles.py`), and then one page of `pages/`. A page only calls the functions that the commands call too.
"""
