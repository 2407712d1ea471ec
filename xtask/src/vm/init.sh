#!/bin/busybox sh
# The first process of a machine. Its root becomes that of the machine outside (9p, read-only) under
# a layer in memory, which takes what is written; then /vm/main.sh goes on there.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
while read -r module; do $b insmod "/modules/$module" || echo "vm: no $module"; done </order
$b mkdir -p /mnt/outside /mnt/layer /mnt/root
options=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o ro,cache=loose,$options root /mnt/outside
$b mount -t tmpfs -o size=60% layer /mnt/layer
$b mkdir -p /mnt/layer/upper /mnt/layer/work
$b mount -t overlay -o lowerdir=/mnt/outside,upperdir=/mnt/layer/upper,workdir=/mnt/layer/work overlay /mnt/root
for place in proc sys dev; do $b mount --move /$place /mnt/root/$place; done
$b mkdir -p /mnt/root/vm
$b mount -t 9p -o $options,cache=none vm /mnt/root/vm
exec $b chroot /mnt/root /bin/sh /vm/main.sh
