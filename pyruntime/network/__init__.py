"""Network devices, by netlink. Imported only where a bundle has some: pyroute2 alone takes a tenth of a second."""
