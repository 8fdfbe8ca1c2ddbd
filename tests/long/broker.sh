# To be sourced. `start_broker FOLDER` starts a mosquitto on a free loopback port; sets `port` and its process id
# `broker`.
start_broker() {
  port=$((20000 + RANDOM % 10000))
  printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$1/mosquitto.conf"
  PATH="$PATH:/usr/sbin" mosquitto -c "$1/mosquitto.conf" >"$1/mosquitto.log" 2>&1 &
  broker=$!
  for _ in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
    kill -0 "$broker" 2>/dev/null || break
    sleep 0.1
  done
  cat "$1/mosquitto.log" >&2
  echo "no mosquitto: apt-get install mosquitto, or make setup" >&2
  exit 69
}
