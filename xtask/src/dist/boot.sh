# Boots the Debian in the folder $1 as the first process of its namespaces. Started by `unshare` as
# the first process of new process, mount, UTS and IPC namespaces; the network namespace is given.
set -eu
root=$1
group=$2

if [ "${3-}" != inside ]; then
    # Nothing that is mounted here is seen outside, and all of it goes with the last process.
    mount --make-rprivate /
    mount --bind "$root" "$root"
    # A control group of its own, so that systemd finds an empty tree.
    mount -t cgroup2 cgroup2 "$root/mnt"
    mkdir "$root/mnt/$group"
    echo $$ >"$root/mnt/$group/cgroup.procs"
    umount "$root/mnt"
    exec unshare --cgroup -- sh "$0" "$root" "$group" inside
fi

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
# As systemd mounts it where it boots a machine; in a container it leaves that to others.
mount -t bpf -o mode=700 bpf "$root/sys/fs/bpf"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
hostname ftp-nat-check

cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0
