# Stands in for a coding agent if none is set. It has no model: it knows what each task of the sample needs.
#
# Two tasks add a line to the end of the same file at the same time, so that their work conflicts. The receipt is
# wrong at first, so that a check fails.
set -eu
task=${TASK_ID##*:}
echo "reading the prompt: $(grep -c . "$DESCARTES_PROMPT_FILE") lines, task $task"
sleep 0.3
mkdir -p tests
case $task in
1)
    printf '%s\n' apple bread cheese > goods.txt
    echo "The goods are in goods.txt." > catalog.txt
    echo '[ "$(grep -c . goods.txt)" -eq 3 ]' > tests/goods.sh
    ;;
2.1)
    printf '%s\n' "apple 1" "bread 3" "cheese 7" > prices.txt
    echo "The prices are in prices.txt." >> catalog.txt
    cat > tests/prices.sh <<'END'
while read -r name; do
    grep -q "^$name [0-9]" prices.txt || exit 1
done < goods.txt
END
    ;;
2.2)
    printf '%s\n' "apple 9" "bread 5" "cheese 1" > stock.txt
    echo "The stock is in stock.txt." >> catalog.txt
    echo '[ "$(grep -c . stock.txt)" -eq "$(grep -c . goods.txt)" ]' > tests/stock.sh
    ;;
3)
    if grep -q 'is not done: the check' "$DESCARTES_PROMPT_FILE"; then
        echo "the check found that the total is not added up; correcting it"
        sum='total=$((total + price))'
    else
        sum='total=$price'
    fi
    cat > receipt.sh <<END
total=0
for name in "\$@"; do
    price=\$(sed -n "s/^\$name //p" prices.txt)
    echo "\$name: \$price"
    $sum
done
echo "total: \$total"
END
    echo '[ "$(sh receipt.sh apple bread | tail -n 1)" = "total: 4" ]' > tests/receipt.sh
    ;;
4)
    cat > low.sh <<'END'
while read -r name count; do
    [ "$count" -ge 3 ] || echo "only $count left: $name"
done < stock.txt
END
    echo '[ "$(sh low.sh)" = "only 1 left: cheese" ]' > tests/low.sh
    ;;
5)
    printf '%s\n' 'sh receipt.sh "$@"' 'sh low.sh' > sell.sh
    echo '[ "$(sh sell.sh bread | grep -c .)" -eq 3 ]' > tests/sell.sh
    ;;
6)
    echo "9 to 17" > hours.txt
    echo '[ -s hours.txt ]' > tests/hours.sh
    ;;
7)
    echo "Open from $(cat hours.txt)" > sign.txt
    echo 'grep -q "$(cat hours.txt)" sign.txt' > tests/sign.sh
    ;;
*)
    echo "this agent knows the tasks of the sample project only, and not $task" >&2
    exit 1
    ;;
esac
sleep 0.2
echo "task $task is finished"
