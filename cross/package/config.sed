# The example config as a package carries it: named by the host, no broker yet, the service's own folders.
s|^id = |#id = |
s|^url = |#url = |
s|^path = "/data/wlasl"|path = "/var/lib/handloom/dataset"|
