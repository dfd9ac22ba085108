# Stands in for a coding agent if none is set. It has no model, but it reads the prompt, runs the check,
# edits a file and runs the check again.
set -eu
echo "reading the prompt: $(grep -c . "$DESCARTES_PROMPT_FILE") lines, task $TASK_ID"
sleep 0.4
echo "running the check as it is"
sh test.sh || echo "so the loop stops one guest early"
sleep 0.4
echo "editing greet.sh"
sed 's/-gt 1/-gt 0/' greet.sh > greet.new
mv greet.new greet.sh
sleep 0.4
echo "running the check again"
sh test.sh
echo "Done: the loop ran while more than one guest was left, so the last one was never greeted."
