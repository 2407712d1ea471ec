# Runs in the machine, after init.sh: the last preparations, then each scene of /vm/scenes. A line of
# that file is a scene's name, its limit in seconds and its command. What a scene says goes to
# /vm/NAME.log, how it ended to /vm/NAME.exit, and at the end /vm/done appears.
export HOME=/root
mkdir -p /run /tmp /dev/pts /dev/shm /lib/modules
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mkdir -p /run/netns
mount -t bpf bpf /sys/fs/bpf
if [ -n "$VM_FOLDER" ]; then
    mkdir -p "$VM_FOLDER"
    mount -t 9p -o ro,cache=loose,trans=virtio,version=9p2000.L,msize=512000 folder "$VM_FOLDER"
fi
mount --bind "$VM_MODULES" /lib/modules
ip link set lo up
# Nobody here loads modules for what is plugged in.
modprobe virtio_net
uname -r >/vm/booted
while read -r name limit command; do
    echo "$name" >/vm/now
    timeout -k 5 "$limit" sh -c "$command" >"/vm/$name.log" 2>&1 </dev/null
    echo $? >"/vm/$name.exit"
done </vm/scenes
dmesg >/vm/dmesg.log
echo >/vm/done
sync
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
