#!/bin/bash
# A container whose user is a number, without HOME: the message is not about --address, which nobody gave.
source "$(dirname "$0")/../lib.sh"

someone="unshare -U --map-user=12345 --map-group=12345"
$someone true 2> /dev/null || skip "unshare gives no other user here"
cp "$A" a.jpg && tar -cf 000000.tar a.jpg && chmod 777 .
told 6 120 $someone env -u HOME -u USER -u LOGNAME restyle invert 000000.tar --out lat --executor ray $RUN
! grep -q 'leave --address out' out.txt || wrong "no word of --address" "$said"
export RAY_ADDRESS=127.0.0.1:6399
refused 6 120 restyle invert 000000.tar --out lat2 $RUN
grep -q RAY_ADDRESS out.txt || wrong "a sentence that names RAY_ADDRESS" "$said"
exit $failed
