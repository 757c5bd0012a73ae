#!/bin/busybox sh
# The virtual machine's first program. /run/command goes on, on this machine's files with a layer in memory over them.
export PATH=/bin
/bin/busybox --install -s /bin
set -ex
trap 'echo "vm: init.sh failed" >/dev/ttyS0; poweroff -f' EXIT
mkdir -p /proc /sys /dev /lower /layer /root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
. /run/settings

mount -t virtiofs -o ro root /lower
mount -t tmpfs -o size=90% layer /layer
mkdir /layer/upper /layer/work /layer/project
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work root /root
# held while /tmp, where the project may be, is covered
mount --bind "/root$project" /layer/project
mount -t tmpfs -o mode=1777 tmp /root/tmp
mkdir -p "/root$project"
mount --bind /layer/project "/root$project"

# of another kernel than the installed one
[ "$modules" = /lib/modules ] || [ "$modules" = /usr/lib/modules ] || mount --bind "/root$modules" /root/lib/modules
for name in proc sys dev; do mount --move "/$name" "/root/$name"; done
mkdir -p /root/dev/pts /root/dev/shm /root/dev/mqueue
mount -t devpts -o mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm /root/dev/shm
mount -t mqueue mqueue /root/dev/mqueue
ln -s /proc/self/fd /root/dev/fd
chmod 666 /root/dev/net/tun # as udev does
mount -t tmpfs -o mode=755 run /root/run
[ ! -d /units ] || mkdir -p /root/run/systemd/system
mount -t securityfs securityfs /root/sys/kernel/security
cp /run/command /root/run/command
ip link set lo up
ulimit -Hn 1048576
ulimit -Sn 1024
if [ -d /units ]; then
	cp -r /units/. /root/run/systemd/system
	# timers come after sysinit.target: the first one would have all started that is part of a boot, also what empties /tmp
	rm -rf /root/usr/lib/systemd/system/sysinit.target.wants /root/etc/systemd/system/sysinit.target.wants
	trap - EXIT
	exec switch_root /root /lib/systemd/systemd --unit=command.target --show-status=no
fi
mount -t cgroup2 -o nsdelegate cgroup2 /root/sys/fs/cgroup
trap - EXIT
exec switch_root /root /bin/sh /run/command
